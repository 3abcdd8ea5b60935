import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminCommands as image } from '../image/index.ts';
import { AdminUsage } from '../usage/admin-usage.ts';
import { projectUsageCommands } from '../usage/project-usage.ts';
import { commands as agent } from './agent/index.ts';
import { commands as audit } from './audit/index.ts';
import { commands as domain } from './domain/index.ts';
import { commands as group } from './group/index.ts';
import { commands as keypair } from './keypair/index.ts';
import { commands as registry } from './registry/index.ts';
import { commands as resourcePolicy } from './resource-policy/index.ts';
import { commands as resourcePreset } from './resource-preset/index.ts';
import { commands as scalingGroup } from './scaling-group/index.ts';
import { commands as user } from './user/index.ts';
import { commands as warmPool } from './warm-pool/index.ts';

export const commands: CommandBundle['commands'] = [
  ...image,
  ...domain,
  ...group,
  ...user,
  ...keypair,
  ...audit,
  ...registry,
  ...scalingGroup,
  ...resourcePolicy,
  ...resourcePreset,
  ...agent,
  ...warmPool,
  AdminUsage,
  ...projectUsageCommands,
];
