// Usage: node fetch.js URL HEADERS(JSON)
const [url, headers] = process.argv.slice(2);

fetch(url, { headers: JSON.parse(headers) }).then(
  async (answer) => {
    console.log(await answer.text());
    process.exitCode = answer.ok ? 0 : 1;
  },
  (error) => {
    console.error(error.message, error.cause);
    process.exitCode = 1;
  },
);
