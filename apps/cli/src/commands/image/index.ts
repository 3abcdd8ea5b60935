import type { CommandBundle } from '@backend.ai/cli-kit';
import { ImageList } from './list.ts';

export const commands: CommandBundle['commands'] = [ImageList];
