// A deployment's API page: Swagger UI over the document that stands in the page. [data-api-docs] names the json_script block.
(() => {
  "use strict";
  const start = () => {
    for (const target of document.querySelectorAll("[data-api-docs]")) {
      const spec = JSON.parse(document.getElementById(target.dataset.apiDocs).textContent);
      window.SwaggerUIBundle({ spec, domNode: target, deepLinking: false, defaultModelsExpandDepth: -1, docExpansion: "list", validatorUrl: null });
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
