import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addSlots,
  amountFromText,
  amountToText,
  equalSlots,
  fits,
  lackingSlots,
  parseResourceSlots,
  type ResourceSlots,
  slotsFromTexts,
  slotsToTexts,
  subtractSlots,
} from './resource-slots.ts';

const name = fc.constantFrom('cpu', 'mem', 'cuda.device', 'constructor', 'toString');
const amount = fc.bigInt({ min: 0n, max: 10n ** 18n });
const slots: fc.Arbitrary<ResourceSlots> = fc.dictionary(name, amount, { noNullPrototype: true });

describe('resource slots', () => {
  it('add up in any order and grouping', () => {
    fc.assert(
      fc.property(slots, slots, slots, (a, b, c) => {
        expect(equalSlots(addSlots(addSlots(a, b), c), addSlots(a, addSlots(b, c)))).toBe(true);
        expect(equalSlots(addSlots(a, b), addSlots(b, a))).toBe(true);
        expect(equalSlots(addSlots(a, {}), a)).toBe(true);
      }),
    );
  });

  it('are the same again after adding and subtracting', () => {
    fc.assert(fc.property(slots, slots, (a, b) => equalSlots(subtractSlots(addSlots(a, b), b), a)));
  });

  it('fit exactly when nothing goes below zero', () => {
    fc.assert(
      fc.property(slots, slots, (wanted, available) => {
        const rest = Object.values(subtractSlots(available, wanted));
        expect(fits(wanted, available)).toBe(rest.every((left) => left >= 0n));
        expect(fits(wanted, addSlots(wanted, available))).toBe(true);
        expect(lackingSlots(wanted, available).length === 0).toBe(fits(wanted, available));
      }),
    );
  });

  it('survive their text form unchanged', () => {
    fc.assert(
      fc.property(slots, (a) => {
        expect(slotsFromTexts(slotsToTexts(a))).toEqual(a);
        for (const text of Object.values(slotsToTexts(a))) expect(text).toMatch(/^\d+(\.\d{0,2}[1-9])?$/);
      }),
    );
  });

  it('are read as the database writes them', () => {
    expect(amountFromText('1.500000')).toBe(1_500n);
    expect(amountFromText('536870912.000000')).toBe(536_870_912_000n);
  });

  it('show a lack as a negative number', () => {
    expect(amountToText(-1_500n)).toBe('-1.5');
    expect(amountToText(-1n)).toBe('-0.001');
  });

  it('take sizes for memory and decimals for the rest', () => {
    const parsed = parseResourceSlots({ cpu: '0.5', mem: '1g', 'cuda.device': 2, gone: '0', none: null });
    expect(slotsToTexts(parsed)).toEqual({ cpu: '0.5', mem: '1073741824', 'cuda.device': '2' });
  });

  it.each<Record<string, string>>([
    { cpu: '-1' },
    { cpu: '0.0001' },
    { cpu: 'two' },
    { cpu: '' },
    { 'c p u': '1' },
    { mem: '1.5' },
  ])('refuse %j', (input) => {
    expect(() => parseResourceSlots(input)).toThrow(expect.objectContaining({ code: 'invalid-input' }));
  });

  it('refuse a name that no agent offers, listing those that exist', () => {
    expect(() => parseResourceSlots({ tpu: '1' }, new Set(['mem', 'cpu']))).toThrow(
      expect.objectContaining({
        code: 'unknown-slot',
        data: { fields: { 'resources.tpu': 'is offered by no agent' }, slot: 'tpu', known: ['cpu', 'mem'] },
      }),
    );
  });
});
