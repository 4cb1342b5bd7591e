// Relative addresses, because the page is shown below a prefix that only the host knows. It is built to `ui`, beside the
// plugin's source, where `temps plugin build` looks for a page.
export default {
  base: "./",
  build: { outDir: "../ui", emptyOutDir: true, modulePreload: { polyfill: false } },
};
