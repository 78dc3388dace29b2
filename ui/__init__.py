"""Web pages at /ui, served by the same rules as the API."""

from flask import Blueprint, request, url_for
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import formatting
from errors import NotFound, RegistryError, Unauthorized
from ui import actions, dashboard, error_pages, image, image_list, labels, sessions, signing_in
from ui.assets import asset_url, assets
from ui.labels import is_visible
from ui.rendering import see_other
from web import answer_registry_error

pages = Blueprint("ui", __name__, url_prefix="/ui", template_folder="templates")
entrance = Blueprint("ui_entrance", __name__, url_prefix="/ui", template_folder="templates")


@pages.get("/")
@pages.get("/images")
def list_images():
    return image_list.show_list()


@pages.get("/dashboard")
def show_dashboard():
    return dashboard.show_dashboard()


@pages.get("/images/new")
def show_create_form():
    return actions.show_create_form()


@pages.post("/images/new")
def create_image():
    return actions.create_image()


@pages.get("/images/<image_id:image_id>")
def show_image(image_id):
    return image.show_image(image_id)


@pages.get("/images/<image_id:image_id>/members")
@pages.get("/images/<image_id:image_id>/members/remove")
@pages.get("/images/<image_id:image_id>/protect")
@pages.get("/images/<image_id:image_id>/undelete")
def redirect_to_image(image_id):
    """Redirect the address of a form without a page of its own to the image."""
    return image.redirect_to_image(image_id)


@pages.get("/images/<image_id:image_id>/json")
def show_json(image_id):
    return image.show_json(image_id)


@pages.get("/images/<image_id:image_id>/edit")
def show_edit_form(image_id):
    return actions.show_edit_form(image_id)


@pages.post("/images/<image_id:image_id>/edit")
def edit_image(image_id):
    return actions.edit_image(image_id)


@pages.post("/images/<image_id:image_id>/members")
def share_image(image_id):
    return actions.share_image(image_id)


@pages.post("/images/<image_id:image_id>/members/remove")
def unshare_image(image_id):
    return actions.unshare_image(image_id)


@pages.post("/images/<image_id:image_id>/protect")
def protect_image(image_id):
    return actions.protect_image(image_id)


@pages.get("/images/<image_id:image_id>/delete")
def show_delete_page(image_id):
    return actions.show_delete_page(image_id)


@pages.post("/images/<image_id:image_id>/delete")
def delete_image(image_id):
    return actions.delete_image(image_id)


@pages.post("/images/<image_id:image_id>/undelete")
def undelete_image(image_id):
    return actions.undelete_image(image_id)


@entrance.get("/signin")
def show_signin():
    return signing_in.show_signin()


@entrance.post("/signin")
def sign_in():
    return signing_in.sign_in()


@entrance.post("/signout")
def sign_out():
    return signing_in.sign_out()


@entrance.route("/<path:rest>", methods=["GET", "POST", "PUT", "DELETE"])
@entrance.route("/", methods=["POST", "PUT", "DELETE"])
def reject_unknown_page(rest=""):
    """Answer 404 or 405 below /ui, as a page instead of the API's JSON."""
    if request.method in ("GET", "HEAD"):
        raise NotFound("This page does not exist.")
    raise MethodNotAllowed(["GET", "HEAD", "OPTIONS"])


for blueprint in (pages, entrance):
    blueprint.register_error_handler(Unauthorized, error_pages.show_unauthorized)
    blueprint.register_error_handler(RegistryError, error_pages.show_refusal)
    blueprint.register_error_handler(HTTPException, error_pages.show_http_error)
    blueprint.register_error_handler(Exception, error_pages.show_mistake)


def register(app):
    """Add the pages to an application."""
    app.register_blueprint(pages)
    app.register_blueprint(entrance)
    app.register_blueprint(assets)
    app.identifiers[pages.name] = sessions.identify_visitor
    app.identifiers[entrance.name] = sessions.identify_guest
    app.identifiers[assets.name] = sessions.identify_nobody
    app.register_error_handler(Unauthorized, redirect_unauthorized_root)
    app.jinja_env.globals |= {"asset_url": asset_url, "formatting": formatting, "labels": labels}
    app.jinja_env.tests["visible"] = is_visible


def redirect_browser():
    """Return a redirect to the pages if a browser requests the root, else None."""
    if request.accept_mimetypes.best_match(("application/json", "text/html")) != "text/html":
        return None
    response = see_other(url_for("ui.list_images"))
    response.status_code = 302
    response.headers.add("Vary", "Accept")
    return response


def redirect_unauthorized_root(error):
    """Redirect a browser at the root to the pages, where it can sign in."""
    is_redirected = request.endpoint == "v1.list_images_at_root"
    return (redirect_browser() if is_redirected else None) or answer_registry_error(error)
