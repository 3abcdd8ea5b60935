'use strict';
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { gitHead } = require('./git-head.cjs');
const { lock } = require('./lock.cjs');

/**
 * Installs and builds what is missing. Two that start at once do it once: the second waits for the first. Progress goes
 * to stderr in steps; the output of a step is shown only when it failed.
 */

const manifestOf = (root) => path.join(root, 'apps/cli/dist/manifest.json');

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** The package lock beside the record npm keeps of what it installed. */
function needsInstall(root) {
  const lock = path.join(root, 'package-lock.json');
  const record = path.join(root, 'node_modules/.package-lock.json');
  let recorded;
  try {
    recorded = fs.statSync(record).mtimeMs;
    if (fs.statSync(lock).mtimeMs <= recorded) return false;
  } catch {
    return recorded === undefined;
  }
  // A checkout touches the lock file without changing it: what counts is whether the versions agree.
  const wanted = Object.entries(readJson(lock)?.packages ?? {});
  const present = readJson(record)?.packages ?? {};
  const differs = wanted.some(([name, entry]) => {
    if (!name.startsWith('node_modules/') || entry.link || entry.optional || entry.peer) return false;
    return present[name]?.version !== entry.version;
  });
  if (differs) return true;
  try {
    const now = new Date();
    fs.utimesSync(record, now, now);
  } catch {
    // Compared again next time.
  }
  return false;
}

function needsBuild(root) {
  const manifest = readJson(manifestOf(root));
  if (!manifest) return true;
  const head = gitHead(root);
  if (head !== null && manifest.head !== head) return true;
  return Object.values(manifest.bundles).some((file) => !fs.existsSync(path.join(root, file)));
}

async function prepare(root) {
  if (!needsInstall(root) && !needsBuild(root)) return;
  const release = await lock(path.join(root, '.backend.ai', 'prepare.lock'), {
    onWait: () => process.stderr.write('Waiting for another process that installs or builds ...\n'),
  });
  try {
    if (needsInstall(root)) {
      await step('Installing packages', 'npm', ['ci', '--no-audit', '--no-fund'], root, 'npm ci');
    }
    if (needsBuild(root)) {
      await step('Building', 'npm', ['run', 'build', '--silent'], root, 'npm run build');
      if (needsBuild(root)) throw new Error('The build succeeded but left no commands behind.');
    }
  } finally {
    release();
  }
}

function step(title, command, args, cwd, byHand) {
  const startedAt = Date.now();
  process.stderr.write(`${title} ...`);
  const env = { ...process.env, TURBO_TELEMETRY_DISABLED: '1', NO_UPDATE_NOTIFIER: '1' };
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = [];
  child.stdout.on('data', (chunk) => output.push(chunk));
  child.stderr.on('data', (chunk) => output.push(chunk));
  return new Promise((resolve, reject) => {
    const fail = (reason) => {
      const lines = Buffer.concat(output).toString('utf8').trimEnd().split('\n').slice(-60);
      process.stderr.write(` failed (${reason}).\n\n${lines.join('\n')}\n\n`);
      reject(new Error(`${title} failed.\n  Correct what is said above, then try again; by hand: ${byHand}`));
    };
    child.once('error', (error) => fail(error.code === 'ENOENT' ? `${command} is not installed` : error.message));
    child.once('close', (code, signal) => {
      if (code !== 0) return fail(signal ?? `exit code ${code}`);
      process.stderr.write(` done in ${((Date.now() - startedAt) / 1000).toFixed(1)} s\n`);
      resolve();
    });
  });
}

module.exports = { prepare, needsInstall, needsBuild };
