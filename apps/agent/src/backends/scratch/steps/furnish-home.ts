import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Dotfile, KernelSpec, SshKeyPair } from '@backend.ai/contract';
import { HomeFiles } from '../../../files/home-files.ts';
import type { CreateStep } from '../../backend.ts';
import { hostsOfMachine, hostsTable, needsHosts, resolveHosts } from '../cluster-hosts.ts';
import type { ScratchDraft } from '../draft.ts';
import type { ScratchPaths } from '../scratch.ts';

/** @param withHosts Whether the kernels of a session need a table to find one another. */
export function needsFurniture(spec: KernelSpec, withHosts: boolean): boolean {
  return spec.dotfiles !== undefined || spec.sshKeyPair !== undefined || (withHosts && needsHosts(spec));
}

/** What a kernel finds when it wakes up: dotfiles, the key pair of its cluster, and the names of the other kernels. */
export function furnishHomeStep(draft: ScratchDraft, withHosts: boolean): CreateStep {
  return {
    name: 'furnish-home',
    async run() {
      const { spec, paths, uid } = draft;
      if (withHosts && spec.cluster && needsHosts(spec)) {
        writeFileSync(paths.hosts, hostsTable(await resolveHosts(spec.cluster.hosts), hostsOfMachine()));
        chmodSync(paths.hosts, 0o644);
      }
      if (spec.sshKeyPair) writeKeyPair(paths, spec.sshKeyPair, uid);
      const home = new HomeFiles({ home: paths.home, staging: paths.folder, uid });
      for (const dotfile of spec.dotfiles ?? []) await writeDotfile(home, dotfile);
    },
    // It goes with the folders in which it is.
    undo() {},
  };
}

/** @throws AppError `invalid-path` */
async function writeDotfile(home: HomeFiles, { path, mode, content }: Dotfile): Promise<void> {
  const bytes = Buffer.from(content);
  const file = await home.write(path, bytes.length, Number.parseInt(mode, 8));
  try {
    await file.write(bytes);
  } catch (error) {
    await file.discard();
    throw error;
  }
  await file.commit();
}

/** ssh refuses a private key that others may read. */
function writeKeyPair({ config }: ScratchPaths, { publicKey, privateKey }: SshKeyPair, uid: number | null): void {
  const folder = join(config, 'ssh');
  const files = [
    { path: join(folder, 'id_cluster'), content: privateKey, mode: 0o600 },
    { path: join(folder, 'id_cluster.pub'), content: publicKey, mode: 0o644 },
  ];
  mkdirSync(folder, { mode: 0o700 });
  for (const { path, content, mode } of files) {
    writeFileSync(path, content.endsWith('\n') ? content : `${content}\n`, { mode, flag: 'wx' });
    chmodSync(path, mode);
  }
  if (uid !== null) for (const path of [folder, ...files.map((file) => file.path)]) chownSync(path, uid, uid);
}
