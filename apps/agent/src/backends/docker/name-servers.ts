import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';

/** Those of the machine that containers ask themselves; what listens on the machine alone is asked by the engine for them. */
export function nameServersIn(resolvConf: string): string[] {
  return resolvConf.split('\n').flatMap((line) => {
    const [, address = ''] = /^\s*nameserver\s+(\S+)/.exec(line) ?? [];
    return isIPv4(address) && !address.startsWith('127.') ? [address] : [];
  });
}

/** As the engine finds them: behind the stub of systemd are those that it asks itself. */
export function nameServersOfMachine(): string[] {
  const own = read('/etc/resolv.conf');
  return nameServersIn(
    /^\s*nameserver\s+127\.0\.0\.53\s*$/m.test(own) ? read('/run/systemd/resolve/resolv.conf') : own,
  );
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // Then there are none to be allowed.
    return '';
  }
}
