import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import type { Client } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { type FieldOption, FieldsCommand, fieldText } from '../field-options.ts';

/** `admin keypair-resource-policy …`, `user-resource-policy …`, `project-resource-policy …`: the same five for each. */

type Kind = 'keypair' | 'user' | 'project';
/** The same for the three kinds, as commands see them: the server checks what they send. */
interface Policies {
  list(): Promise<object[]>;
  get(name: string): Promise<object>;
  create(input: object): Promise<object>;
  modify(input: object): Promise<object>;
  delete(name: string): Promise<void>;
}

const slots = 'cpu=8,mem=16g,cuda.device=Infinity, or JSON';
const fieldsOf: Readonly<Record<Kind, readonly FieldOption[]>> = {
  keypair: [
    [
      'defaultForUnspecified',
      '--default-for-unspecified',
      'text',
      'Slots that are not named: LIMITED (none), UNLIMITED',
    ],
    ['totalResourceSlots', '--total-resource-slots', 'slots', `What all sessions may hold together: ${slots}`],
    ['maxSessionLifetime', '--max-session-lifetime', 'number', 'Seconds until a session ends; 0: never'],
    ['maxConcurrentSessions', '--max-concurrent-sessions', 'number', 'Sessions at work; 0: any number'],
    ['maxConcurrentSftpSessions', '--max-concurrent-sftp-sessions', 'number', 'Private sessions; 0: any number'],
    ['maxPendingSessionCount', '--max-pending-session-count', 'number', 'Sessions that wait; 0: any number'],
    [
      'maxPendingSessionResourceSlots',
      '--max-pending-session-resource-slots',
      'slots',
      'What all that wait may ask for',
    ],
    ['maxContainersPerSession', '--max-containers-per-session', 'number', 'Kernels of a session; 0: any number'],
    ['maxPriority', '--max-priority', 'limit', 'Highest priority of a session (0 to 100), or none'],
    [
      'idleTimeout',
      '--idle-timeout',
      'limit',
      "Seconds without use until a session ends; 0: never; none: installation's",
    ],
  ].map(toOption),
  user: [
    ['totalResourceSlots', '--total-resource-slots', 'slots', `What all sessions may hold together: ${slots}`],
    ['maxSessionCountPerModelSession', '--max-session-count-per-model-session', 'number', 'Of a model service; 0: any'],
    ['maxCustomizedImageCount', '--max-customized-image-count', 'number', 'Images made of sessions; 0: any number'],
    ['maxConcurrentLogins', '--max-concurrent-logins', 'number', 'Logins at a time; 0: any number'],
  ].map(toOption),
  project: [['maxNetworkCount', '--max-network-count', 'number', 'Networks of the project; 0: any number']].map(
    toOption,
  ),
};

function toOption([field, flag, kind, description]: string[]): FieldOption {
  return { field, flag, kind, description } as FieldOption;
}

function commandsOf(kind: Kind, example: string): CommandBundle['commands'] {
  const noun = `${kind}-resource-policy`;
  const usage = (description: string, line: string, what: string) =>
    Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin ${noun} ${line}`]] });
  const policies = (client: Client): Policies => client.admin.resourcePolicies[kind] as unknown as Policies;

  class List extends ApiCommand {
    static override paths = [['admin', noun, 'list']];
    static override usage = usage(`List ${kind} resource policies`, 'list', 'All of them');
    override async perform(): Promise<undefined> {
      const list = (await policies(await this.connect()).list()) as Record<string, unknown>[];
      if (this.json) return void this.printJson({ policies: list });
      const columns = ['name', ...fieldsOf[kind].slice(0, 4).map(({ field }) => field)];
      const heads = columns.map((column) => column.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));
      writeTable(
        this.context.stdout,
        heads,
        list.map((policy) => columns.map((column) => fieldText(policy[column]))),
      );
    }
  }

  class Info extends FieldsCommand {
    static override paths = [['admin', noun, 'info']];
    static override usage = usage(`Show a ${kind} resource policy`, 'info default', 'All its limits');
    name = Option.String({ name: 'NAME', required: true });
    constructor() {
      super([]);
    }
    override async perform(): Promise<undefined> {
      const policy = await policies(await this.connect()).get(this.name);
      if (this.json) return void this.printJson({ policy });
      this.show(policy);
    }
  }

  class Add extends FieldsCommand {
    static override paths = [['admin', noun, 'add']];
    static override usage = usage(`Create a ${kind} resource policy`, `add small ${example}`, 'With limits');
    name = Option.String({ name: 'NAME', required: true });
    constructor() {
      super(fieldsOf[kind]);
    }
    override async perform(): Promise<undefined> {
      const policy = await policies(await this.connect()).create({ name: this.name, ...this.given() });
      if (this.json) return void this.printJson({ policy });
      this.say(`The ${kind} resource policy ${this.name} was created.`);
    }
  }

  class Update extends FieldsCommand {
    static override paths = [['admin', noun, 'update']];
    static override usage = usage(
      `Change limits of a ${kind} resource policy`,
      `update small ${example}`,
      'Some of them',
    );
    name = Option.String({ name: 'NAME', required: true });
    constructor() {
      super(fieldsOf[kind]);
    }
    override async perform(): Promise<undefined> {
      const policy = await policies(await this.connect()).modify({ name: this.name, ...this.given() });
      if (this.json) return void this.printJson({ policy });
      this.show(policy);
    }
  }

  class Delete extends ApiCommand {
    static override paths = [['admin', noun, 'delete']];
    static override usage = usage(`Delete a ${kind} resource policy that nothing uses`, 'delete small', 'By its name');
    name = Option.String({ name: 'NAME', required: true });
    override async perform(): Promise<undefined> {
      await policies(await this.connect()).delete(this.name);
      if (this.json) return void this.printJson({ deleted: this.name });
      this.say(`The ${kind} resource policy ${this.name} was deleted.`);
    }
  }

  return [List, Info, Add, Update, Delete];
}

export const commands: CommandBundle['commands'] = [
  ...commandsOf('keypair', '--total-resource-slots cpu=4,mem=8g --max-concurrent-sessions 3'),
  ...commandsOf('user', '--total-resource-slots cpu=8,mem=16g'),
  ...commandsOf('project', '--max-network-count 2'),
];
