// Shows the OpenAPI document of this service; no validator of another site is asked.
"use strict";

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", validatorUrl: null, deepLinking: true });
