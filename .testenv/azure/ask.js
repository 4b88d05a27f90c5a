// One signed request to the emulator: ask.js HOST:PORT ACCOUNT KEY METHOD PATH[?QUERY] [BODY [IF-NONE-MATCH]].
// Prints the status, and after it what a GET brings.
const http = require('node:http');
const crypto = require('node:crypto');

const [host, account, key, method, path, body = '', ifNoneMatch = ''] = process.argv.slice(2);
const url = new URL(`http://${host}/${account}/${path}`);
const ms = { 'x-ms-date': new Date().toUTCString(), 'x-ms-version': '2021-12-02' };
const blob = method === 'PUT' && !url.search;
if (blob) ms['x-ms-blob-type'] = 'BlockBlob';

const canonical = Object.keys(ms).sort().map((k) => `${k}:${ms[k]}\n`).join('');
const query = [...url.searchParams].sort().map(([k, v]) => `\n${k}:${v}`).join('');
const length = body.length || '';
// Encoding, language, length, MD5, type, date, four conditions, range.
const text = [method, '', '', length, '', '', '', '', '', ifNoneMatch, '', ''].join('\n') +
  `\n${canonical}/${account}${url.pathname}${query}`;
const signature = crypto.createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');

const headers = { ...ms, 'Content-Length': body.length, Authorization: `SharedKey ${account}:${signature}` };
if (ifNoneMatch) headers['If-None-Match'] = ifNoneMatch;
const request = http.request(url, { method, headers }, async (answer) => {
  let got = '';
  for await (const part of answer) got += part;
  console.log(method === 'GET' && answer.statusCode === 200 ? `200 ${got}` : answer.statusCode);
});
request.on('error', (err) => { console.error(err.message); process.exit(1); });
request.end(body);
