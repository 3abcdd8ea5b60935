import { userRoles } from '@backend.ai/core';
import { type Action, actions, extentOf } from './access.ts';

/** The table of actions as Markdown, for `docs/user/access.md`. */
export function accessTable(): string {
  const rows = (Object.keys(actions) as Action[]).map((action) => [
    `\`${action}\``,
    actions[action].about,
    ...userRoles.map((role) => extentOf(role, action) ?? '–'),
  ]);
  const lines = [['action', 'what', ...userRoles], ['---', '---', ...userRoles.map(() => '---')], ...rows];
  return `${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
}
