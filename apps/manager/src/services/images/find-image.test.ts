import type { Image } from '@backend.ai/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { AgentRecord } from '../../repositories/agents.ts';
import { KnownAgents } from '../agents/known-agents.ts';
import { findImage, offersImage } from './find-image.ts';
import { everything } from './image-service.ts';

const image = fc.record({
  name: fc.constantFrom('local/python:3.11', 'local/python:3.12', 'local/node:20'),
  architecture: fc.constantFrom('x86_64', 'aarch64'),
  aliases: fc.subarray(['python', 'py', 'node']),
});
const agents = fc.array(
  fc.record({
    status: fc.constantFrom('ALIVE', 'LOST'),
    backend: fc.constantFrom('docker', 'process'),
    architecture: fc.constantFrom('x86_64', 'aarch64'),
    images: fc.uniqueArray(image, { maxLength: 3, selector: ({ name, architecture }) => `${architecture} ${name}` }),
  }),
  { maxLength: 8 },
);
const records = [{ name: 'local/node:20', architecture: 'x86_64', registry: 'local', repository: 'node', tag: '20' }];

it('finds an image that many agents have as if each offered it by itself', () => {
  const refs = fc.constantFrom('python', 'py', 'node', 'local/python:3.11', 'node:20');
  fc.assert(
    fc.property(
      agents,
      refs,
      fc.constantFrom(undefined, 'x86_64'),
      fc.boolean(),
      (made, ref, architecture, scanned) => {
        const known = new KnownAgents(
          made.map((agent, nth) => ({ ...agent, id: `i-${nth}` }) as unknown as AgentRecord),
        );
        const images = scanned ? records.map((record) => ({ ...record, labels: {}, digest: 'sha256:1' })) : [];
        const each = known.list.flatMap((agent) =>
          agent.images.map((offered: Image) => ({ image: offered, agents: [agent] })),
        );
        const found = (offers: KnownAgents['offers']) =>
          findImage(
            {
              list: known.list,
              offers,
              fetching: (wanted) => known.fetching(wanted),
              once: (_key, choose) => choose(),
            },
            { images: images as never, aliases: [] },
            ref,
            architecture,
            everything,
          );
        expect(found(known.offers)).toEqual(found(each));
        const having = known.list.filter((agent) =>
          agent.images.some(({ name, aliases }) => name === ref || aliases.includes(ref)),
        );
        const best = found(known.offers);
        const again = () => findImage(known, { images: images as never, aliases: [] }, ref, architecture, everything);
        expect([again(), again()]).toEqual([best, best]);
        // Told one by one: who has it under any alias, or would fetch what a registry has.
        const expected = known.list.filter(
          (agent) =>
            best &&
            (offersImage(agent, best.image) ||
              (best.record && agent.backend === 'docker' && agent.architecture === best.image.architecture)),
        );
        expect(best?.agents ?? []).toEqual(expected);
        if (architecture === undefined && having.length > 0) expect(found(known.offers)).toBeDefined();
      },
    ),
    { numRuns: 500 },
  );
});
