import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { collectLogs, smallDisk, smallDiskMissing, waitFor } from '@backend.ai/testing';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Outbox, type UnnumberedEvent } from './outbox.ts';

const event: UnnumberedEvent = {
  type: 'kernel-preparing',
  at: '2030-01-01T00:00:00.000Z',
  requestId: 'request',
  kernelId: '11111111-1111-4111-8111-111111111111',
  sessionId: '22222222-2222-4222-8222-222222222222',
};

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bai-outbox-'));
  path = join(folder, 'outbox.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

const open = (at = path): Outbox => Outbox.open(at, { clock: systemClock, logger: silentLogger });
const seqs = (outbox: Outbox): number[] => outbox.pending.map(({ seq }) => seq);

describe('outbox', () => {
  it('keeps what was not acknowledged, in order, over restarts', () => {
    const first = open();
    for (let i = 0; i < 4; i++) first.append(event);
    first.acknowledge(2);
    first.close();
    const second = open();
    expect(seqs(second)).toEqual([3, 4]);
    expect(second.append(event).seq).toBe(5);
    second.acknowledge(5);
    second.close();
    expect(open().append(event).seq).toBe(6);
  });

  it('loses at most the line that a crash tore, and never repeats a number that was sent', () => {
    const action = fc.oneof(
      { weight: 5, arbitrary: fc.constant('append' as const) },
      { weight: 2, arbitrary: fc.constant('acknowledge' as const) },
      { weight: 1, arbitrary: fc.constant('restart' as const) },
      { weight: 1, arbitrary: fc.nat(200).map((bytes) => ({ torn: bytes })) },
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        rmSync(path, { force: true });
        let outbox = open();
        let expected: number[] = [];
        let acked = 0;
        for (const each of actions) {
          if (each === 'append') expected.push(outbox.append(event).seq);
          else if (each === 'acknowledge') {
            acked = expected[Math.floor(expected.length / 2)] ?? acked;
            outbox.acknowledge(acked);
            expected = expected.filter((seq) => seq > acked);
          } else {
            outbox.close();
            // A crash in the middle of one more line.
            if (each !== 'restart') {
              const line = `${JSON.stringify({ event: { ...event, seq: 1_000_000 } })}\n`;
              appendFileSync(path, line.slice(0, Math.min(each.torn, line.length - 1)));
            }
            outbox = open();
          }
          expect(seqs(outbox)).toEqual(expected);
          expect(outbox.lastSeq).toBe(Math.max(acked, ...expected));
        }
        outbox.close();
      }),
      { numRuns: 200 },
    );
  });

  it('survives the loss of any tail of its file with an earlier state of itself', () => {
    const outbox = open();
    for (let i = 0; i < 5; i++) outbox.append(event);
    outbox.close();
    for (let size = statSync(path).size; size >= 0; size -= 7) {
      truncateSync(path, size);
      const cut = open();
      expect(seqs(cut)).toEqual(Array.from({ length: cut.lastSeq }, (_, index) => index + 1));
      cut.close();
    }
  });

  it('stays small however many events pass', () => {
    const outbox = open();
    for (let i = 0; i < 3000; i++) outbox.acknowledge(outbox.append(event).seq);
    outbox.append(event);
    expect(readFileSync(path).length).toBeLessThan(80 * 1024);
    outbox.close();
    const again = open();
    expect([again.lastSeq, seqs(again)]).toEqual([3001, [3001]]);
  });

  it.skipIf(smallDiskMissing)(
    `keeps what a full disk does not take, tells so once, and writes it down when there is room${
      smallDiskMissing ? ` (skipped: ${smallDiskMissing})` : ''
    }`,
    async () => {
      const disk = await smallDisk('256k');
      const file = join(disk.path, 'outbox.jsonl');
      const logs = collectLogs('agent');
      const outbox = Outbox.open(file, { clock: systemClock, logger: logs.logger });
      outbox.append(event);
      disk.fill();
      // Until the last page of the file is full, and beyond.
      const told = Array.from({ length: 50 }, () => outbox.append(event).seq);
      outbox.acknowledge(10);
      expect(seqs(outbox)).toEqual(told.filter((seq) => seq > 10));
      expect(logs.records.map(({ msg }) => msg)).toEqual(['events cannot be written down, and wait in memory']);
      expect(readFileSync(file, 'utf8').split('\n').length).toBeLessThan(51);
      disk.free();
      await waitFor(() => logs.records.some(({ msg }) => msg === 'events are written down again'), { what: 'room' });
      outbox.append(event);
      outbox.close();
      expect(seqs(open(file))).toEqual([...told.filter((seq) => seq > 10), 52]);
    },
  );

  it('counts on above what the manager knows after its file was lost', () => {
    const outbox = open();
    outbox.append(event);
    outbox.append(event);
    outbox.continueAfter(100);
    expect(seqs(outbox)).toEqual([101, 102]);
    outbox.close();
    expect(open().append(event).seq).toBe(103);
  });
});
