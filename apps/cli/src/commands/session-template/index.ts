import type { CommandBundle } from '@backend.ai/cli-kit';
import {
  SessionTemplateCreate,
  SessionTemplateDelete,
  SessionTemplateGet,
  SessionTemplateList,
  SessionTemplateUpdate,
} from './session-template-commands.ts';

export const commands: CommandBundle['commands'] = [
  SessionTemplateList,
  SessionTemplateGet,
  SessionTemplateCreate,
  SessionTemplateUpdate,
  SessionTemplateDelete,
];
