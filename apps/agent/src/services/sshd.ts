import type { ServicePort } from '@backend.ai/contract';
import type { z } from 'zod';
import type { serviceDefinitionSchema } from './service-definition.ts';

/** In images that have OpenSSH's server it is a service, whatever else they say of themselves. */
export const sshdService: ServicePort = { name: 'sshd', protocol: 'tcp', ports: [2200] };
export const sshdProgram = '/usr/sbin/sshd';

/** Of the kernel's user, as everything that is started here: nobody else can log in, and no password is ever asked for. */
const settings = [
  'Port {port}',
  'HostKey /run/kernel/sshd/host_key',
  'PidFile none',
  'UsePAM no',
  'AuthenticationMethods publickey',
  'PasswordAuthentication no',
  'KbdInteractiveAuthentication no',
  // Those of the user, those that were given at the start, and the kernels of the same session.
  'AuthorizedKeysFile /home/work/.ssh/authorized_keys /run/kernel/sshd/authorized_keys /home/config/ssh/id_cluster.pub',
  'X11Forwarding no',
  'PrintMotd no',
  'Subsystem sftp internal-sftp',
];

/** Variables of the kernel but those that belong to a login; sshd would begin with none. `{{` is a brace. */
const environment = `env | grep -E '^[A-Za-z_][A-Za-z0-9_]*=[^"\\\\]*$' |
  grep -vE '^(HOME|USER|LOGNAME|SHELL|TERM|PWD|OLDPWD|SHLVL|_|AUTHORIZED_KEYS|SSH_[A-Z_]*)=' |
  sed 's/.*/"&"/' | tr '\\n' ' '`;

const prepare = `set -eu
umask 077
mkdir -p /run/kernel/sshd
cd /run/kernel/sshd
[ -e host_key ] || ssh-keygen -q -t ed25519 -N '' -C "$(hostname)" -f host_key
[ -z "\${{AUTHORIZED_KEYS:-}}" ] || printf '%s\\n' "$AUTHORIZED_KEYS" >> authorized_keys
printf '%s\\n' "$@" > sshd_config
echo "SetEnv $(${environment})" >> sshd_config`;

export const sshdDefinition: z.input<typeof serviceDefinitionSchema> = {
  prestart: [{ action: 'run_command', args: { command: ['/bin/sh', '-c', prepare, 'sh', ...settings] } }],
  command: [sshdProgram, '-D', '-e', '-f', '/run/kernel/sshd/sshd_config'],
  /** Lines that may log in besides. */
  allowed_envs: ['AUTHORIZED_KEYS'],
};
