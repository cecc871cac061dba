"""The page that asks for the password: one file, light and dark, nothing loaded from anywhere."""

from starlette.responses import HTMLResponse

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nanochat</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0; }
form { display: grid; gap: 0.75rem; width: min(20rem, 90vw); }
h1 { font-size: 1.25rem; margin: 0; }
input, button { font: inherit; padding: 0.5rem 0.75rem; border-radius: 0.5rem; border: 1px solid GrayText; }
p { margin: 0; min-height: 1.5em; }
</style>
</head>
<body>
<form method="post" action="/login">
<h1>nanochat</h1>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
<button>Enter</button>
<p role="alert">NOTE</p>
</form>
</body>
</html>
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, browsers would send the form with `Origin: null`
}


def login_page(*, wrong: bool = False) -> HTMLResponse:
    """The form, as the body of a 401.

    Args:
        wrong: whether a wrong password was given.
    """
    return HTMLResponse(_PAGE.replace("NOTE", "That is not the password." if wrong else ""), 401, _HEADERS)
