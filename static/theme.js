// Puts on the theme that was chosen, before anything is shown. A script of the old kind, as a module would come late.

(() => {
  /** @type {?string} */
  let theme = null;
  try {
    theme = localStorage.getItem('presence-hub theme');
  } catch {
    // Refused: the system's theme it is.
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
