'use strict';
const fs = require('node:fs');
const path = require('node:path');

/** The checked out commit, read without git; null outside a checkout. */
function gitHead(root) {
  try {
    let gitDir = path.join(root, '.git');
    if (fs.statSync(gitDir).isFile()) {
      // A linked worktree.
      gitDir = path.resolve(root, read(gitDir).replace(/^gitdir: /, ''));
    }
    const head = read(path.join(gitDir, 'HEAD'));
    if (!head.startsWith('ref: ')) return head;
    const ref = head.slice('ref: '.length);
    let commonDir = gitDir;
    try {
      commonDir = path.resolve(gitDir, read(path.join(gitDir, 'commondir')));
    } catch {
      // The main worktree.
    }
    try {
      return read(path.join(commonDir, ref));
    } catch {
      const line = read(path.join(commonDir, 'packed-refs'))
        .split('\n')
        .find((entry) => entry.endsWith(` ${ref}`));
      return line ? line.split(' ')[0] : null;
    }
  } catch {
    return null;
  }
}

function read(file) {
  return fs.readFileSync(file, 'utf8').trim();
}

module.exports = { gitHead };
