// Usage: node https.js URL HEADERS(JSON)
const https = require("node:https");
const [url, headers] = process.argv.slice(2);

https
  .get(url, { headers: JSON.parse(headers) }, (answer) => {
    answer.pipe(process.stdout);
    process.exitCode = answer.statusCode === 200 ? 0 : 1;
  })
  .on("error", (error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
