import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Whatever on this machine bears the id of a kernel: processes, control groups, folders. */
export function remainsOf(kernelId: string, dataDir: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')) continue;
      const text = readFileSync(`/proc/${pid}/environ`, 'latin1') + readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      if (text.includes(kernelId)) found.push(`process ${pid}`);
    } catch {
      // It ended meanwhile.
    }
  }
  if (existsSync(join(dataDir, 'scratch', kernelId))) found.push('scratch folder');
  for (const parent of cgroupParents(dataDir))
    if (existsSync(join(parent, kernelId))) found.push(`cgroup in ${parent}`);
  return found;
}

/** The folders with control groups of the agent of a data directory. */
export function cgroupParents(dataDir: string): string[] {
  const file = join(dataDir, 'agent.json');
  if (!existsSync(file)) return [];
  const name = `backendai-${(JSON.parse(readFileSync(file, 'utf8')) as { installationId: string }).installationId}`;
  return find('/sys/fs/cgroup', name, 6);
}

function find(folder: string, name: string, depth: number): string[] {
  if (depth === 0) return [];
  let entries: string[];
  try {
    entries = readdirSync(folder, { withFileTypes: true }).flatMap((each) => (each.isDirectory() ? [each.name] : []));
  } catch {
    return [];
  }
  return entries.flatMap((each) =>
    each === name
      ? [join(folder, each)]
      : each.startsWith('backendai-')
        ? []
        : find(join(folder, each), name, depth - 1),
  );
}
