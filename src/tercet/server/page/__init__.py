"""The web page at `/`: a chat and a dashboard, in plain files that need no build step.

    assets.py     the files of `static/`, read once, each with its type and ETag
    policy.py     what the browser may do on the page: nothing but talk to this server
    routes.py     one route for each file
    dashboard.py  `/dashboard.json`: the figures, from the metrics
    static/       index.html, styles, scripts (ES modules), uPlot for the charts

Text of a model is untrusted. The scripts put it on the page as text nodes and elements that they make
themselves, never as markup; the policy (no inline script or style, Trusted Types required, nothing from
elsewhere) holds even if they erred.
"""

from tercet.server.page.routes import router

__all__ = ["router"]
