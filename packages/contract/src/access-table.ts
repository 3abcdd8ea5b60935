import { userRoles } from '@backend.ai/core';
import { type Action, actions, extentOf } from './access.ts';

const head = `# Who may do what

For each action whose things it may touch: one's \`own\`, also those of one's \`project\`s, of one's \`domain\`, or \`all\`. A dash: not at
all. Made of \`packages/contract/src/access.ts\` by \`npm run configs\`; a test compares.
`;

/** `docs/user/access.md`: the table of actions as people read it. */
export function accessDocument(): string {
  const rows = (Object.keys(actions) as Action[]).map((action) => [
    `\`${action}\``,
    actions[action].about,
    ...userRoles.map((role) => extentOf(role, action) ?? '–'),
  ]);
  const lines = [['action', 'what', ...userRoles], ['---', '---', ...userRoles.map(() => '---')], ...rows];
  return `${head}\n${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
}
