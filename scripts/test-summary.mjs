// Adds up vitest's JSON reports of one folder: names what failed, and ends with `N passed, N failed, N skipped`.
// With a second argument it also writes a table of the files and their times there.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';

const [folder, table] = process.argv.slice(2);
let [passed, failed, skipped] = [0, 0, 0];
const rows = [];
for (const name of readdirSync(folder)) {
  const report = JSON.parse(readFileSync(join(folder, name), 'utf8'));
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  skipped += report.numPendingTests + report.numTodoTests;
  for (const file of report.testResults) {
    const failures = file.assertionResults.filter((test) => test.status === 'failed');
    for (const test of failures) console.log(`FAILED ${relative('.', file.name)}: ${test.fullName}`);
    // A file that cannot be loaded has no tests to fail.
    if (file.status === 'failed' && failures.length === 0) {
      failed += 1;
      console.log(`FAILED ${relative('.', file.name)}: ${file.message?.split('\n')[0]}`);
    }
    const seconds = ((file.endTime - file.startTime) / 1000).toFixed(1);
    rows.push([
      name.replace('.json', ''),
      relative('.', file.name),
      file.assertionResults.length,
      failures.length,
      seconds,
    ]);
  }
}
const summary = `${passed} passed, ${failed} failed, ${skipped} skipped`;
if (table) {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const [{ model }] = cpus();
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const text = [
    '# Soak: the heavier form of some tests',
    '',
    `${summary}. Commit ${commit}, Node ${process.versions.node}, ${cpus().length} × ${model}, ${new Date().toISOString()}.`,
    '',
    line(['project', 'file', 'tests', 'failed', 'seconds']),
    line(['---', '---', '---:', '---:', '---:']),
    ...rows.map(line),
    '',
  ];
  writeFileSync(table, text.join('\n'));
}
console.log(summary);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
