// Usage: node axios.js URL HEADERS(JSON)
const axios = require("axios");
const [url, headers] = process.argv.slice(2);

axios.get(url, { headers: JSON.parse(headers) }).then(
  (answer) => console.log(answer.data),
  (error) => {
    console.error(error.message);
    process.exitCode = 1;
  },
);
