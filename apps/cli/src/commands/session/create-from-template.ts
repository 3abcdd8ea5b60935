import { ApiCommand, parsePairs } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { inOptionWords, type OptionOfField } from '../../option-words.ts';
import { waitingLine } from '../../session-command.ts';
import { onlyGiven } from '../../session-creating-command.ts';

/** What else a session has is the template's, in its own words. */
const optionOf: OptionOfField = {
  name: '--name',
  resources: '-r',
  environ: '-e',
  image: '--image',
  tag: '--tag',
  project: '--group',
};

export class SessionCreateFromTemplate extends ApiCommand {
  static override paths = [['session', 'create-from-template']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Create a session as a template says, and wait until it runs',
    examples: [['With more memory', '$0 session create-from-template my-template -t my-session -r mem=2g']],
  });

  name = Option.String('-t,--name', { description: 'Name of the session' });
  resources = Option.Array('-r,--resources', [], { description: "Instead of the template's: cpu=1" });
  environ = Option.Array('-e,--env', [], { description: "Instead of the template's: NAME=VALUE" });
  image = Option.String('-i,--image', { description: "Instead of the template's" });
  tag = Option.String('--tag', { description: "Instead of the template's" });
  group = Option.String('-g,--group', { description: "Project, instead of the template's" });
  enqueueOnly = Option.Boolean('--enqueue-only', false, { description: 'Return as soon as it is queued' });
  template = Option.String({ name: 'TEMPLATE', required: true });

  override async perform(): Promise<undefined> {
    const given = onlyGiven({
      name: this.name,
      image: this.image,
      tag: this.tag,
      project: this.group,
      resources: this.resources.length === 0 ? undefined : parsePairs('-r', this.resources),
      environ: this.environ.length === 0 ? undefined : parsePairs('-e', this.environ),
    });
    const client = await this.connect();
    const session = await inOptionWords(client.sessions.createFromTemplate(this.template, given), optionOf, this);
    const onChange = waitingLine((text) => this.context.stderr.write(text));
    if (!this.enqueueOnly) await session.waitUntilRunning({ onChange });
    if (this.json) return void this.printJson({ created: session.created, session: session.view });
    this.say(`Session ${session.name} ${session.created ? 'is created' : 'existed already'}: ${session.view.status}`);
  }
}
