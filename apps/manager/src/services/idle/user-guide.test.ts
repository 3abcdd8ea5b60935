import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { defaultIdleSettings, idlePrefix, idleSettingNames, parseIdleSetting } from './idle-settings.ts';

const guide = readFileSync(new URL('../../../../../docs/user/idle-and-usage.md', import.meta.url), 'utf8');
const rows = [...guide.matchAll(/^\| `([a-z_/A-Z-]+)` \| (\(none\)|`[^`]+`) \|/gm)].map(
  ([, name = '', value = '']) => [name, value.replaceAll('`', '')] as const,
);

it('the user guide has each setting of idle checkers with its default', () => {
  const settings = rows.filter(([name]) => !name.includes('METRIC'));
  expect(settings.map(([name]) => name)).toEqual([...idleSettingNames]);
  for (const [name, value] of settings) {
    if (value !== '(none)')
      expect(defaultIdleSettings).toMatchObject(parseIdleSetting(`${idlePrefix}${name}`, value) ?? {});
  }
});

it('the user guide has the key of thresholds', () => {
  const [[name = ''] = []] = rows.filter(([each]) => each.includes('METRIC'));
  expect(parseIdleSetting(`${idlePrefix}${name.replace('METRIC', 'cpu_util')}`, '30')).toEqual({
    thresholds: { cpu_util: 30 },
  });
});
