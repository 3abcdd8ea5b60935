import { askProgram, findProgram, searchFolders } from '../../files/programs.ts';
import type { SandboxTools } from './sandbox-command.ts';

export async function findSandboxTools(path: string): Promise<SandboxTools> {
  const folders = searchFolders(path);
  const bwrap = findProgram('bwrap', folders);
  const help = bwrap ? await askProgram(bwrap, ['--help']) : null;
  // `unshare` mode needs mount(8) and pivot_root(8), too; its self-test notices when one is missing.
  return {
    shell: '/bin/sh',
    bwrap: help?.includes('--json-status-fd') ? bwrap : null,
    unshare: findProgram('unshare', folders),
    setpriv: findProgram('setpriv', folders),
    taskset: findProgram('taskset', folders),
    bwrapSizes: help?.includes('--perms') === true && help.includes('--size'),
  };
}
