"""List queries: parsing, planning, rendering to SQL, and keyset pagination; aggregates and exports.

    query = parameters.parse_list_query(query_string, is_admin, api)
    images, position = pages.list_page(query, context, content)

- ``parameters``: ``parse_list_query``, ``parse_parameters``, ``position_text``, and the tables of parameters
- ``pages``: ``list_page``, ``count_images``, and one record: ``show``, ``rendered``
- ``links``: ``next_link``, the Link header of a page
- ``aggregates``: totals, candidates for problems, counts by status; ``export``: all records
- ``backend``: planner and dialect of the engine in use
- for all engines: ``branches`` (branches, ranges and filters as plain data), ``dialect`` (portable SQL), ``search``
- for SQLite: ``sqlite_planner`` (driving index), ``sqlite_dialect``
"""
