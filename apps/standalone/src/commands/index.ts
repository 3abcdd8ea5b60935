import type { CommandBundle } from '@backend.ai/cli-kit';
import { DoctorCommand } from './doctor.ts';
import { DownCommand } from './down.ts';
import { QuickstartCommand } from './quickstart.ts';
import { StatusCommand } from './status.ts';
import { UpCommand } from './up.ts';

export const commands: CommandBundle['commands'] = [
  QuickstartCommand,
  UpCommand,
  DownCommand,
  StatusCommand,
  DoctorCommand,
];
