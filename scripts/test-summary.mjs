// Adds up vitest's JSON reports of one folder: names what failed, and ends with `N passed, N failed, N skipped`.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const folder = process.argv[2];
let [passed, failed, skipped] = [0, 0, 0];
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
  }
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
