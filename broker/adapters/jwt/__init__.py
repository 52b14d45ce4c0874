"""Identity from JWTs (RFC 7519) signed by the agencies' registered issuers."""
