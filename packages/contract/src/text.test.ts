import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { environSchema, inputLimits, isPlainText } from './text.ts';

describe('plain text', () => {
  it('is what UTF-8 carries there and back, without NUL', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.constantFrom('', '\0', '\ud800', '\udfff'), (text, more) => {
        const whole = text + more;
        const survives = Buffer.from(whole).toString() === whole;
        expect(isPlainText(whole)).toBe(survives && !whole.includes('\0'));
      }),
    );
  });
});

describe('an environment', () => {
  const refuses = (environ: Record<string, string>): void =>
    expect(environSchema.safeParse(environ).success).toBe(false);
  const many = (count: number, value: string): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`V${index}`, value]));

  it('has inputLimits for one variable, their number and all together', () => {
    expect(environSchema.parse(many(inputLimits.variables, 'x'))).toEqual(many(inputLimits.variables, 'x'));
    refuses(many(inputLimits.variables + 1, 'x'));
    refuses({ A: 'x'.repeat(inputLimits.variable + 1) });
    refuses({ ['A'.repeat(inputLimits.variableName + 1)]: 'x' });
    refuses(many(9, 'x'.repeat(inputLimits.variable)));
  });

  it('has no NUL', () => refuses({ A: 'a\0b' }));
});
