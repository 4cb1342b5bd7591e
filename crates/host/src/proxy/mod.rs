//! The proxy: `/api/x/{plugin}/*` to the plugin, with every bound, and pages that cannot act as the console.
