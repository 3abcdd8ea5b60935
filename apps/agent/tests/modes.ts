import { accessSync, constants } from 'node:fs';
import type { WorldOptions } from './agent-world.ts';

function offers(program: string): boolean {
  return (process.env.PATH ?? '')
    .split(':')
    .concat('/usr/bin', '/usr/sbin')
    .some((folder) => {
      try {
        accessSync(`${folder}/${program}`, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

export interface Mode extends WorldOptions {
  readonly name: string;
  readonly isolated: boolean;
}

/** Every way of isolating that this machine can show. */
export const modes: readonly Mode[] = [
  ...(offers('bwrap') ? [{ name: 'bubblewrap', sandbox: 'bubblewrap' as const, isolated: true }] : []),
  ...(offers('bwrap')
    ? [{ name: 'bubblewrap without control groups', sandbox: 'bubblewrap' as const, useCgroups: false, isolated: true }]
    : []),
  ...(offers('unshare') && offers('setpriv')
    ? [{ name: 'namespaces by unshare', sandbox: 'unshare' as const, isolated: true }]
    : []),
  { name: 'no sandbox', sandbox: 'none' as const, allowUnisolated: true, isolated: false },
  {
    name: 'no sandbox and no control groups',
    sandbox: 'none' as const,
    useCgroups: false,
    allowUnisolated: true,
    isolated: false,
  },
];
