// Decades, seasons and trend of weekly CO2 readings: `node analyse.js co2.csv` (no packages needed).

const { readFileSync, writeFileSync } = require('node:fs');

/** [year as a fraction, month, ppmv]; weeks without a good reading are left out. */
function read(path) {
  const [, ...lines] = readFileSync(path, 'utf8').trim().split(/\r?\n/);
  return lines.flatMap((line) => {
    const [text, ppm] = line.split(',');
    if (!ppm) return [];
    const [year, month, day] = [Number(text.slice(0, 4)), Number(text.slice(4, 6)), Number(text.slice(6, 8))];
    const first = Date.UTC(year, 0, 1);
    const fraction = (Date.UTC(year, month - 1, day) - first) / (Date.UTC(year + 1, 0, 1) - first);
    return [[year + fraction, month, Number(ppm)]];
  });
}

/** Gaussian elimination with partial pivoting. */
function solve(matrix, values) {
  const rows = matrix.map((row, i) => [...row, values[i]]);
  const size = values.length;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let i = column; i < size; i++) if (Math.abs(rows[i][column]) > Math.abs(rows[pivot][column])) pivot = i;
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let i = column + 1; i < size; i++) {
      const factor = rows[i][column] / rows[column][column];
      rows[i] = rows[i].map((value, j) => value - factor * rows[column][j]);
    }
  }
  const result = new Array(size).fill(0);
  for (let i = size - 1; i >= 0; i--) {
    let known = 0;
    for (let j = i + 1; j < size; j++) known += rows[i][j] * result[j];
    result[i] = (rows[i][size] - known) / rows[i][i];
  }
  return result;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Coefficients of a + b t + c t², t in years since `origin`, by least squares. */
function fit(points, origin) {
  const sums = [0, 1, 2, 3, 4].map((k) => sum(points.map(([year]) => (year - origin) ** k)));
  const right = [0, 1, 2].map((k) => sum(points.map(([year, , ppm]) => ppm * (year - origin) ** k)));
  return solve(
    [0, 1, 2].map((i) => [0, 1, 2].map((j) => sums[i + j])),
    right,
  );
}

function plot(points, trend, path) {
  const [width, height, left, top, right, bottom] = [860, 420, 60, 40, 20, 50];
  const [x0, x1, y0, y1] = [points[0][0], points.at(-1)[0], 310, 380];
  const x = (year) => (left + ((year - x0) / (x1 - x0)) * (width - left - right)).toFixed(1);
  const y = (ppm) => (height - bottom - ((ppm - y0) / (y1 - y0)) * (height - top - bottom)).toFixed(1);
  const line = (pairs, style) =>
    `<polyline fill="none" ${style} points="${pairs.map(([year, ppm]) => `${x(year)},${y(ppm)}`).join(' ')}"/>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="${left}" y="24" font-size="16">Atmospheric CO2 at Mauna Loa, weekly means</text>`,
  ];
  for (let ppm = y0; ppm <= y1; ppm += 10) {
    parts.push(`<line x1="${left}" x2="${width - right}" y1="${y(ppm)}" y2="${y(ppm)}" stroke="#ddd"/>`);
    parts.push(`<text x="${left - 8}" y="${(Number(y(ppm)) + 4).toFixed(1)}" text-anchor="end">${ppm}</text>`);
  }
  for (let year = 1960; year <= 2000; year += 10) {
    parts.push(`<text x="${x(year)}" y="${height - bottom + 20}" text-anchor="middle">${year}</text>`);
  }
  parts.push(
    `<text x="${left}" y="${height - 10}" fill="#666">parts per million by volume; line: quadratic trend</text>`,
    line(
      points.map(([year, , ppm]) => [year, ppm]),
      'stroke="#4c78a8" stroke-width="1"',
    ),
    line(
      points.filter((_, i) => i % 26 === 0 || i === points.length - 1).map(([year]) => [year, trend(year)]),
      'stroke="#e45756" stroke-width="2"',
    ),
    '</svg>',
  );
  writeFileSync(path, `${parts.join('\n')}\n`);
}

const round = (value) => Math.round(value * 100) / 100;
const points = read(process.argv[2] ?? 'co2.csv');
const origin = 1980;
const [a, b, c] = fit(points, origin);
const trend = (year) => a + b * (year - origin) + c * (year - origin) ** 2;

const table = [];
console.log('decade    weeks     mean     min     max  growth/yr');
for (let decade = 1950; decade <= 2000; decade += 10) {
  const values = points.filter(([year]) => Math.floor(year / 10) * 10 === decade);
  const ppm = values.map(([, , value]) => value);
  const [first, last] = [values[0][0], values.at(-1)[0]];
  const growth = (trend(last) - trend(first)) / (last - first);
  const row = {
    decade: `${decade}s`,
    weeks: values.length,
    mean: round(sum(ppm) / ppm.length),
    min: Math.min(...ppm),
    max: Math.max(...ppm),
    growthPerYear: round(growth),
  };
  table.push(row);
  const cells = [
    row.decade.padEnd(8),
    String(row.weeks).padStart(7),
    row.mean.toFixed(2).padStart(9),
    row.min.toFixed(1).padStart(8),
    row.max.toFixed(1).padStart(8),
    growth.toFixed(2).padStart(11),
  ];
  console.log(cells.join(''));
}

const seasonal = Array.from({ length: 12 }, (_, i) => {
  const rest = points.filter(([, month]) => month === i + 1).map(([year, , ppm]) => ppm - trend(year));
  return round(sum(rest) / rest.length);
});
const amplitude = round(Math.max(...seasonal) - Math.min(...seasonal));
const monthOf = (value) => seasonal.indexOf(value) + 1;
console.log(
  `\n${points.length} weeks; seasonal swing ${amplitude} ppmv, highest in month ${monthOf(Math.max(...seasonal))},`,
);
console.log(
  `lowest in month ${monthOf(Math.min(...seasonal))}; the trend grows by ${b.toFixed(2)} ppmv a year in ${origin}.`,
);
writeFileSync(
  'result.json',
  `${JSON.stringify({ weeks: points.length, decades: table, seasonal, amplitude }, null, 2)}\n`,
);
plot(points, trend, 'co2.svg');
console.log('Wrote result.json and co2.svg.');
