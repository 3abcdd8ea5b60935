const mask = '***';

/**
 * A value that is shown nowhere: printing, logging and JSON give its masked form. Only `reveal` tells it, at the place
 * that needs it.
 */
export class Secret {
  readonly #text: string;
  readonly #shown: string;

  /** @param shown What stands for it in output: a URL with its password masked, for example. */
  constructor(text: string, shown: string = mask) {
    this.#text = text;
    this.#shown = shown;
  }

  /** A URL whose host and path may be seen and whose credentials may not. */
  static url(text: string): Secret {
    return new Secret(text, maskUrls(text.replaceAll(/\s/g, '_')));
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return this.#shown;
  }

  toJSON(): string {
    return this.#shown;
  }

  [Symbol.toPrimitive](): string {
    return this.#shown;
  }

  /** For `console.log` and `util.inspect`. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.#shown;
  }
}

/** Up to the last `@`: a password with an unescaped `@`, `/` or quote stays hidden too. */
const credentials = /([a-z][a-z0-9+.-]*:\/\/[^:@\s]*):\S*@/gi;
const secretParameter = /([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]*/gi;

/** The text with the passwords of all URLs in it masked. */
export function maskUrls(text: string): string {
  return text.replace(credentials, `$1:${mask}@`).replace(secretParameter, `$1${mask}`);
}
