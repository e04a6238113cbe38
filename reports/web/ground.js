/* Sets the ground that was chosen before, ahead of the first paint. A page from a file may have no storage. */
(() => {
  try {
    const chosen = localStorage.getItem("loadahead-ground");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.ground = chosen;
  } catch { /* the system's ground it is */ }
})();
