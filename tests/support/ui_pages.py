"""Helpers for tests of web pages: parse a page, and submit its forms as a browser without JavaScript."""

import re
from html.parser import HTMLParser

VOID = {"input", "link", "meta", "img", "br", "hr"}


class Page(HTMLParser):
    """A page's links, forms and texts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.links, self.forms, self.tags, self.texts, self.form, self.area = [], [], [], [], None, None
        self.feed(text)
        for _, attributes in self.tags:
            if owner := attributes.get("form"):
                form = next(form for form in self.forms if form["id"] == owner)
                form["fields"].append((attributes["name"], attributes.get("value", "")))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "form":
            self.form = {"action": attributes["action"], "method": attributes.get("method", "get"), "fields": []}
            self.form["id"] = attributes.get("id")
            self.forms.append(self.form)
        elif self.form is not None and "form" not in attributes:
            self.add_field(tag, attributes)

    def add_field(self, tag, attributes):
        name, value = attributes.get("name"), attributes.get("value")
        if tag == "input" and name and (attributes.get("type") not in ("checkbox", "radio") or "checked" in attributes):
            self.form["fields"].append((name, value or ""))
        elif tag == "textarea":
            self.area = [name, ""]
        elif tag == "select":
            self.select = name
        elif tag == "option" and "selected" in attributes:
            self.area = [self.select, ""]

    def handle_endtag(self, tag):
        if tag in ("textarea", "option") and self.area is not None:
            name, text = self.area
            self.form["fields"].append((name, text.removeprefix("\n")))
            self.area = None
        elif tag == "form":
            self.form = None

    def handle_data(self, text):
        self.texts.append(text)
        if self.area is not None:
            self.area[1] += text

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def form_to(self, ending):
        """{action, method, fields: [(name, value)]} of the form that goes there."""
        return next(form for form in self.forms if form["action"].endswith(ending))


def visit(client, path, status=200, **options):
    response = client.get(path, **options)
    assert response.status_code == status, response.text
    return Page(response.text)


def send(client, form, status=303, /, headers=None, **changes):
    """The answer to a form, with some fields filled in otherwise; None leaves one out."""
    pairs = [(name, changes.get(name, value)) for name, value in form["fields"]]
    pairs += [(name, value) for name, value in changes.items() if name not in dict(pairs)]
    values = {}
    for name, value in pairs:
        if value is not None:
            values.setdefault(name, []).append(value)
    response = client.post(form["action"], data=values, headers=headers)
    assert response.status_code == status, response.text
    return response
