import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCgroupView } from '../../resources/cgroups.ts';

/** The control groups of a container, by its first process. Empty where this machine does not show them. */
export function containerCgroups(pid: number): string[] {
  try {
    const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const { v1, v2 } = parseCgroupView(readFileSync('/proc/self/mountinfo', 'utf8'), groups);
    const places = [...Object.values(v1), ...(v2 ? [v2] : [])];
    // One that is not below the root would be that of the whole machine.
    const paths = places.filter(({ own }) => own !== '/').map(({ mount, own }) => join(mount, own));
    return [...new Set(paths)].filter((path) => existsSync(path));
  } catch {
    return [];
  }
}
