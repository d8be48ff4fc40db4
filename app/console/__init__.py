"""The vendor's web pages (管理后台), at /admin: server-rendered, off until `cardctl admin add` has made an operator."""
