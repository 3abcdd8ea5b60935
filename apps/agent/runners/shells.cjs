'use strict';
const path = require('node:path');
const { findProgram, isExecutable } = require('./processes.cjs');

/** The one that is asked for, else bash where there is one. */
function findShell(wanted) {
  if (wanted && isExecutable(wanted)) return wanted;
  return findProgram('bash') ?? '/bin/sh';
}

function isBash(shell) {
  return path.basename(shell) === 'bash';
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

module.exports = { findShell, isBash, quoted };
