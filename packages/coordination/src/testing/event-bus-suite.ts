import { deferred, type RequestId } from '@backend.ai/core';
import { currentRequestId, runWithRequest } from '@backend.ai/telemetry';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { BusEvent, EventBus } from '../index.ts';

const waitFor = <T>(condition: () => T | Promise<T>): Promise<T> =>
  vi.waitUntil(condition, { timeout: 20_000, interval: 5 }) as Promise<T>;

export interface EventBusSetup {
  /** Gives an event up after three deliveries, a few milliseconds apart. */
  readonly bus: EventBus;
  /** The same bus as another process has it; the same object where there is one process only. */
  readonly peer: EventBus;
  dispose(): Promise<void>;
}

/** What every event bus does. */
export function describeEventBus(name: string, setUp: () => Promise<EventBusSetup>): void {
  describe(`event bus: ${name}`, () => {
    let setup: EventBusSetup;
    let bus: EventBus;
    let peer: EventBus;
    beforeEach(async () => {
      setup = await setUp();
      ({ bus, peer } = setup);
    });
    afterEach(() => setup.dispose());

    const publishMany = async (count: number): Promise<void> => {
      for (let index = 0; index < count; index++) await bus.publish('counted', { index });
    };
    const indexes = (events: readonly BusEvent[]): number[] =>
      events.map((event) => (event.payload as { index: number }).index).sort((left, right) => left - right);

    it('gives each event to one consumer of each group', async () => {
      const got = { first: [] as BusEvent[], second: [] as BusEvent[], other: [] as BusEvent[] };
      bus.consume('group', ['counted'], async (event) => {
        got.first.push(event);
        await new Promise((resolve) => setImmediate(resolve));
      });
      bus.consume('group', ['counted'], async (event) => {
        got.second.push(event);
        await new Promise((resolve) => setImmediate(resolve));
      });
      bus.consume('other', ['counted'], async (event) => void got.other.push(event));
      // Together: what comes one by one may always find the same one idle.
      await Promise.all(Array.from({ length: 20 }, (_, index) => bus.publish('counted', { index })));
      const all = Array.from({ length: 20 }, (_, index) => index);
      await waitFor(() => got.first.length + got.second.length >= 20 && got.other.length >= 20);
      expect(indexes([...got.first, ...got.second])).toEqual(all);
      expect(indexes(got.other)).toEqual(all);
      expect(Math.min(got.first.length, got.second.length)).toBeGreaterThan(0);
    });

    it('gives every listener every event', async () => {
      const one: BusEvent[] = [];
      const two: BusEvent[] = [];
      bus.listen(['counted'], (event) => void one.push(event));
      const stop = bus.listen(['counted'], (event) => void two.push(event));
      await publishMany(3);
      await waitFor(() => one.length === 3 && two.length === 3);
      stop();
      await publishMany(1);
      await waitFor(() => one.length === 4);
      expect(two).toHaveLength(3);
    });

    it('delivers only the types that were asked for', async () => {
      const got: string[] = [];
      bus.consume('group', ['wanted'], async (event) => void got.push(event.type));
      bus.listen(['wanted'], (event) => void got.push(event.type));
      await bus.publish('unwanted', null);
      await bus.publish('wanted', null);
      await waitFor(() => got.length === 2);
      expect(got).toEqual(['wanted', 'wanted']);
    });

    it('runs handlers inside the request that published', async () => {
      const seen: Array<string | undefined> = [];
      bus.consume('group', ['caused'], async (event) => {
        await Promise.resolve();
        seen.push(currentRequestId(), event.requestId);
      });
      bus.listen(['caused'], () => void seen.push(currentRequestId()));
      const event = await runWithRequest({ requestId: 'req-cause' as RequestId }, () => bus.publish('caused', {}));
      await waitFor(() => seen.length === 3);
      expect(new Set(seen.splice(0))).toEqual(new Set(['req-cause']));
      expect(event).toMatchObject({ type: 'caused', requestId: 'req-cause', source: expect.any(String) });
      expect(new Date(event.at).toISOString()).toBe(event.at);
      expect(event.id).not.toBe((await bus.publish('caused', {})).id);
    });

    it('gives events of different requests different ids of requests', async () => {
      const seen: Array<string | undefined> = [];
      bus.consume('group', ['caused'], async () => void seen.push(currentRequestId()));
      for (const requestId of ['req-1', 'req-2']) {
        await runWithRequest({ requestId: requestId as RequestId }, () => bus.publish('caused', {}));
      }
      await waitFor(() => seen.length === 2);
      expect(seen).toEqual(['req-1', 'req-2']);
    });

    it('delivers again after a failure, until the handler succeeds, to nobody else', async () => {
      const tries: BusEvent[] = [];
      const others: BusEvent[] = [];
      bus.consume('group', ['flaky'], async (event) => {
        tries.push(event);
        if (tries.length < 3) throw new Error('not yet');
      });
      bus.consume('other', ['flaky'], async (event) => void others.push(event));
      bus.listen(['flaky'], (event) => void others.push(event));
      const event = await bus.publish('flaky', { value: 1 });
      await waitFor(() => tries.length === 3);
      expect(tries).toEqual([event, event, event]);
      expect(await bus.deadLetters()).toEqual([]);
      await bus.publish('flaky', { value: 2 });
      await waitFor(() => tries.length === 4 && others.length === 4);
    });

    it('gives the events of one type to a single consumer in order of publication', async () => {
      const got: BusEvent[] = [];
      bus.consume('group', ['counted'], async (event) => {
        if (got.length % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
        got.push(event);
      });
      await Promise.all(Array.from({ length: 300 }, (_, index) => bus.publish('counted', { index })));
      await waitFor(() => got.length === 300);
      expect(got.map((event) => (event.payload as { index: number }).index)).toEqual([...Array(300).keys()]);
    });

    it('lets one consumer handle one event at a time', async () => {
      let [present, most, handled] = [0, 0, 0];
      bus.consume('group', ['counted'], async () => {
        present += 1;
        most = Math.max(most, present);
        await new Promise((resolve) => setImmediate(resolve));
        present -= 1;
        handled += 1;
      });
      await Promise.all([publishMany(10), publishMany(10)]);
      await waitFor(() => handled === 20);
      expect(most).toBe(1);
    });

    it('shares the events of a group among processes, and tells listeners in all of them', async () => {
      const handled: BusEvent[] = [];
      const heard = { here: [] as BusEvent[], there: [] as BusEvent[] };
      for (const process of [bus, peer])
        process.consume('group', ['counted'], async (event) => void handled.push(event));
      bus.listen(['counted'], (event) => void heard.here.push(event));
      peer.listen(['counted'], (event) => void heard.there.push(event));
      // Whoever publishes does not wait for the other process to have begun: its group exists when this resolves.
      await peer.publish('counted', { index: 0 });
      await publishMany(20);
      await waitFor(() => handled.length >= 21 && heard.here.length >= 20 && heard.there.length >= 21);
      const all = [0, ...Array(20).keys()].sort((left, right) => left - right);
      expect(indexes(handled)).toEqual(all);
      expect(indexes(heard.there)).toEqual(all);
    });

    it('leaves what a stopped consumer has not begun with to another one', async () => {
      const [release, first, second] = [deferred(), [] as BusEvent[], [] as BusEvent[]];
      const stop = bus.consume('group', ['counted'], async (event) => {
        first.push(event);
        await release.promise;
      });
      await publishMany(10);
      await waitFor(() => first.length === 1);
      const stopped = stop();
      release.resolve();
      await stopped;
      expect(first).toHaveLength(1);
      peer.consume('group', ['counted'], async (event) => void second.push(event));
      await waitFor(() => second.length >= 9);
      expect(indexes([...first, ...second])).toEqual([...Array(10).keys()]);
    });

    it('refuses a consumer that wants other types than its group', () => {
      bus.consume('group', ['one', 'two'], async () => {});
      bus.consume('group', ['two', 'one'], async () => {});
      expect(() => bus.consume('group', ['one'], async () => {})).toThrow(/different types/);
    });

    it('gives an event up after the last try, tells so, and goes on with the next', async () => {
      const handled: unknown[] = [];
      let tries = 0;
      bus.consume('group', ['poison'], async (event) => {
        if (event.payload === 'bad') {
          tries += 1;
          throw new Error('cannot');
        }
        handled.push(event.payload);
      });
      await bus.publish('poison', 'bad');
      await bus.publish('poison', 'good');
      const letters = await waitFor(async () => {
        const found = await bus.deadLetters();
        return found.length > 0 && found;
      });
      expect(letters).toMatchObject([{ group: 'group', tries: 3, failure: 'cannot', event: { payload: 'bad' } }]);
      expect(tries).toBe(3);
      await waitFor(() => handled.length > 0);
      expect(handled).toEqual(['good']);
    });

    it('keeps events of a group while it has no consumer', async () => {
      const stop = bus.consume('group', ['counted'], async () => {});
      await stop();
      await publishMany(2);
      const got: BusEvent[] = [];
      bus.consume('group', ['counted'], async (event) => void got.push(event));
      await waitFor(() => got.length === 2);
    });

    it('does not share payloads between those who publish and those who receive', async () => {
      const payload = { list: [1] };
      const got: unknown[] = [];
      bus.listen(['shared'], (event) => void got.push(event.payload));
      await bus.publish('shared', payload);
      payload.list.push(2);
      await waitFor(() => got.length === 1);
      expect(got).toEqual([{ list: [1] }]);
    });

    it('takes nothing more after it was closed, and waits for running handlers', async () => {
      let ended = false;
      let began = false;
      bus.consume('group', ['slow'], async () => {
        began = true;
        await new Promise((resolve) => setTimeout(resolve, 30));
        ended = true;
      });
      await bus.publish('slow', {});
      await waitFor(() => began);
      await bus.close();
      expect(ended).toBe(true);
      await expect(bus.publish('slow', {})).rejects.toMatchObject({ code: 'shutting-down' });
    });
  });
}
