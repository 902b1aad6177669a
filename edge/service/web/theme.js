// The colour scheme that the reader chose, set before the first paint; it is a classic script for that reason.
(() => {
  const KEY = "edgestream-theme";
  const CHOICES = ["auto", "light", "dark"];

  function kept() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto"; // storage is switched off: the choice holds for this page alone
    }
  }

  function set(choice) {
    document.documentElement.dataset.theme = choice;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // as above
    }
  }

  document.documentElement.dataset.theme = kept();
  globalThis.edgestreamTheme = { CHOICES, kept, set };
})();
