import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { idleCheckers } from './idle.ts';
import { createResourceGroupSchema, resourceGroupOptionsSchema } from './resource-group.ts';
import { createKeypairPolicySchema } from './resource-policy.ts';

/** Tables of the user guide that people write, and the names that the code knows. */

const guide = (page: string): string => readFileSync(new URL(`../../../docs/user/${page}`, import.meta.url), 'utf8');

/** What stands between backquotes in the first column of the table with this head. */
function namesIn(page: string, head: string): string[] {
  const [, rows = ''] = guide(page).split(`\n| ${head} |`);
  const [table = ''] = rows.split('\n\n');
  const first = table
    .split('\n')
    .slice(2)
    .map((row) => row.split('|')[1] ?? '');
  return first.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? ''));
}

it('the guide has every scheduler', () => {
  expect(namesIn('scheduling.md', 'scheduler | next is')).toEqual(
    createResourceGroupSchema.shape.scheduler.unwrap().options,
  );
});

it('the guide has every way to select an agent', () => {
  const { options } = resourceGroupOptionsSchema.shape.agentSelectionStrategy.unwrap();
  expect(namesIn('scheduling.md', 'selection | takes the agent').sort()).toEqual([...options].sort());
});

it("the guide has every field of a key pair's policy with its default", () => {
  const { name: _, ...fields } = createKeypairPolicySchema.shape;
  const names = Object.keys(fields).map((name) => name.replace(/[A-Z]/g, '_$&').toLowerCase());
  const head = "field of a key pair's policy | default";
  expect(
    namesIn('resource-policies.md', head)
      .filter((name) => names.includes(name))
      .sort(),
  ).toEqual(names.sort());
  const defaults = createKeypairPolicySchema.parse({ name: 'x' }) as Record<string, unknown>;
  for (const name of Object.keys(fields)) {
    const value = defaults[name];
    const shown = value === null ? 'none' : typeof value === 'object' ? 'nothing' : String(value);
    const row = `| \`${name.replace(/[A-Z]/g, '_$&').toLowerCase()}\` | `;
    expect(guide('resource-policies.md').replaceAll('`UNLIMITED`', 'UNLIMITED')).toContain(`${row}${shown} |`);
  }
});

it('the guide has every idle checker', () => {
  expect(namesIn('idle-and-usage.md', 'checker | ends a session when')).toEqual([...idleCheckers]);
});
