import type { CommandBundle } from '@backend.ai/cli-kit';
import { Login } from './login.ts';
import { Logout } from './logout.ts';

export const commands: CommandBundle['commands'] = [Login, Logout];
