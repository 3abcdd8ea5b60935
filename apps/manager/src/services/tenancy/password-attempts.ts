import { AppError, type Clock, delay } from '@backend.ai/core';

/** After a wrong password, its user waits this long for the next attempt. */
const wrongMs = 1_000;

/** One attempt at the password of a user at a time, and slow when it was wrong: a stolen key pair finds out no password. */
export class PasswordAttempts {
  readonly #clock: Clock;
  readonly #underWay = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws AppError `rate-limited` while another attempt is under way, and what `isRight` throws */
  async try(userId: string, isRight: () => Promise<boolean>): Promise<boolean> {
    if (this.#underWay.has(userId))
      throw new AppError('rate-limited', 'Another attempt with the password of this user is under way.');
    this.#underWay.add(userId);
    try {
      const answer = await isRight();
      if (!answer) await delay(this.#clock, wrongMs);
      return answer;
    } finally {
      this.#underWay.delete(userId);
    }
  }
}
