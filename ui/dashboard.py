"""What there is altogether, and what is wrong with it."""

from ui.pages import render


def show_dashboard():
    return render("dashboard.html")
