'use strict';
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

/**
 * A file that names the process which holds it: `pid start-time nonce`, so that no two are ever alike. One whose process
 * is gone holds nothing. Only who holds the lock named after such a leaving may remove it: two that find it cannot
 * remove each other's. That second lock is one like the first, should its holder die as well.
 * @returns a function that lets go
 */
async function lock(file, { onWait = () => {} } = {}) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const mine = `${process.pid} ${startOf(process.pid) ?? '-'} ${randomBytes(8).toString('hex')}`;
  const draft = `${file}.${mine.split(' ').at(-1)}`;
  for (let told = false; ; ) {
    // A link appears with its content, and only where nothing is.
    fs.writeFileSync(draft, mine);
    try {
      fs.linkSync(draft, file);
      const release = () => {
        if (read(file) === mine) fs.rmSync(file);
      };
      process.once('exit', release);
      return () => {
        process.removeListener('exit', release);
        release();
      };
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    } finally {
      fs.rmSync(draft, { force: true });
    }
    const holder = read(file);
    if (holder === undefined) continue;
    if (!isAlive(holder)) {
      const letGo = await lock(`${file}.${holder.replace(/[^0-9a-z]+/gi, '-')}`);
      if (read(file) === holder) fs.rmSync(file);
      letGo();
      continue;
    }
    if (!told) onWait();
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function isAlive(holder) {
  const [pid, startedAt] = holder.split(' ');
  if (!(Number(pid) > 0)) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (error.code === 'ESRCH') return false;
  }
  const now = startOf(Number(pid));
  return now !== 'ended' && (now === undefined || startedAt === undefined || startedAt === '-' || now === startedAt);
}

/** Start time of a process in clock ticks since boot; `ended` for a zombie; undefined where there is no procfs. */
function startOf(pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : fields[19];
  } catch {
    return undefined;
  }
}

module.exports = { lock };
