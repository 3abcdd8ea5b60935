import type { CommandBundle } from '@backend.ai/cli-kit';
import { absentComponent } from './absent-component.ts';

/** Components that operators know and that this version does not have yet. */
export const commands: CommandBundle['commands'] = [
  absentComponent('storage', 'storage proxy'),
  absentComponent('web', 'web server'),
  absentComponent('app-proxy-coordinator', 'app proxy coordinator'),
  absentComponent('app-proxy-worker', 'app proxy worker'),
];
