document.querySelector("main").title = "It runs.";
