import { LabIcon } from '@jupyterlab/ui-components';

import cellwright from '../style/icons/cellwright.svg';
import flag from '../style/icons/flag.svg';

export const cellwrightIcon = new LabIcon({ name: 'cellwright:logo', svgstr: cellwright });
export const flagIcon = new LabIcon({ name: 'cellwright:point', svgstr: flag });
