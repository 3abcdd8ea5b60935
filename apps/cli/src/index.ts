import type { CommandBundle } from '@backend.ai/cli-kit';
import { commands as absent } from './commands/absent/index.ts';
import { commands as admin } from './commands/admin/index.ts';
import { commands as auth } from './commands/auth/index.ts';
import { commands as dotfile } from './commands/dotfile/index.ts';
import { commands as image } from './commands/image/index.ts';
import { commands as resource } from './commands/resource/index.ts';
import { commands as run } from './commands/run/index.ts';
import { commands as session } from './commands/session/index.ts';
import { commands as sessionTemplate } from './commands/session-template/index.ts';
import { commands as usage } from './commands/usage/index.ts';

/** All commands of users. Bundles load one group; this is for tests and for who wants them all. */
export const commands: CommandBundle['commands'] = [
  ...run,
  ...session,
  ...sessionTemplate,
  ...dotfile,
  ...usage,
  ...image,
  ...resource,
  ...auth,
  ...admin,
  ...absent,
];
