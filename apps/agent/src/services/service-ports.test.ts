import { expect, it } from 'vitest';
import { parseServicePorts } from './service-ports.ts';

it('reads names, protocols and one or several ports', () => {
  expect(parseServicePorts('jupyter:http:8080, multi:tcp:[5000,5001],my-app:preopen:[3000]')).toEqual({
    services: [
      { name: 'jupyter', protocol: 'http', ports: [8080] },
      { name: 'multi', protocol: 'tcp', ports: [5000, 5001] },
      { name: 'my-app', protocol: 'preopen', ports: [3000] },
    ],
    warnings: [],
  });
});

it('has nothing for an empty label, and skips terminals of older images', () => {
  expect(parseServicePorts('')).toEqual({ services: [], warnings: [] });
  expect(parseServicePorts('shell:pty:3002')).toEqual({ services: [], warnings: [] });
});

it.each([
  ['nonsense', 'not of the form'],
  ['a:http:', 'not of the form'],
  ['a:http:8080:1', 'not of the form'],
  ['../x:http:8080', 'name is not acceptable'],
  ['a:gopher:8080', 'protocol gopher'],
  ['a:http:80', 'between 1025 and 65534'],
  ['a:http:65535', 'between 1025 and 65534'],
  ['a:http:[]', 'between 1025 and 65534'],
  ['a:http:2200', 'port 2200 is reserved'],
  ['a:tcp:[5000,2001]', 'port 2001 is reserved'],
  ['a:tcp:[5000,5000]', 'port 5000 is used twice'],
])('warns of %s and leaves it out', (label, words) => {
  const { services, warnings } = parseServicePorts(`ok:http:9000,${label}`);
  expect(services.map(({ name }) => name)).toEqual(['ok']);
  expect(warnings).toEqual([expect.stringContaining(words)]);
});

it('gives a name and a port to the first who claims them', () => {
  const { services, warnings } = parseServicePorts('a:http:8080,a:http:8081,b:tcp:8080');
  expect(services).toEqual([{ name: 'a', protocol: 'http', ports: [8080] }]);
  expect(warnings).toHaveLength(2);
});
