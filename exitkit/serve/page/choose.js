// Files into the page: chosen, dropped anywhere, or pasted.

import { byId } from "/page/element.js";

// Calls `give` with a list of files.
export function setup(give) {
  const field = byId("file");
  field.addEventListener("change", () => {
    give([...field.files]);
    field.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) give(files);
  });
  for (const name of ["dragover", "dragleave", "drop"])
    document.addEventListener(name, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      document.body.classList.toggle("over", name === "dragover");
      if (name === "drop") give([...event.dataTransfer.files]);
    });
}
